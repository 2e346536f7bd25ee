"""What readers see: tables, claims and figures of a profile, and the numbers the paper prints."""
