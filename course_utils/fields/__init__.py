"""Field worlds: pictures drawn by code that stand for four fields, each with the trap that its field is known for.

Every picture comes with ids: who or what it shows, and where it was taken. They are what an honest split needs.
"""
