"""Images of pairs, figures and the report page."""
