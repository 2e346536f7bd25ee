"""How fast everything is, measured side by side in one run: `infoseg bench` (README.md here)."""
