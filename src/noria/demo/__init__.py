"""``noria demo``: the whole loop on a year of real flights, through the public library, commands and HTTP only."""
