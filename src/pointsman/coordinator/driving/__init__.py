"""Driving one run: its next step, the attempts that it asks for, and the group commit in which everything is
recorded.
"""
