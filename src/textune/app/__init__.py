"""The app: pages in a browser to try, train, compare and learn. It runs on this machine, and shows no one else's."""
