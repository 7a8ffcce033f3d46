"""What tests share: an oracle that shares no code with the package, and builders of models, data and books."""
