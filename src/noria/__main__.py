from __future__ import annotations

from noria.cli.main import main

main()
