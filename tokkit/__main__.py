"""python -m tokkit"""

from tokkit.cli.main import main

main()
