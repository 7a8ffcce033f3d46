// Paper is light, whatever the screen is.
{
  const root = document.documentElement;
  const screen = {};
  addEventListener("beforeprint", () => {
    Object.assign(screen, root.dataset);
    root.dataset.theme = root.dataset.mode = "light";
  });
  addEventListener("afterprint", () => Object.assign(root.dataset, screen));
}
