"""Repositories go to other workspaces and come from them."""
