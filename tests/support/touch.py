"""A finger on a phone's screen: taps are Playwright's own, a drag is put together here."""

from playwright.sync_api import Locator

PHONE = {"has_touch": True, "is_mobile": True}


def drag(slider: Locator, share: float) -> None:
    """Put a finger on the middle of a slider and move it to a share of its width."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    session = slider.page.context.new_cdp_session(slider.page)
    for step, kind in ((0, "touchStart"), *((k / 8, "touchMove") for k in range(1, 9))):
        x = box["x"] + box["width"] * (0.5 + step * (share - 0.5))
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()
