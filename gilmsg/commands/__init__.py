"""The console scripts: argparse and printing around gilmsg's public names."""
