"""Reports in the forms that people and platforms read. They are made from reports, never from notes."""
