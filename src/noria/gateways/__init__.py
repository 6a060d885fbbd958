"""Foreign ways in: other tools' protocols, translated into the verbs of the rooms."""
