"""What was handed in: archives and folders, notebooks, the text of each answer."""
