"""The script that Streamlit runs, alone in its folder: beside a folder `pages` it would take those for scripts, too."""
