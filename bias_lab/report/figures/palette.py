"""List every colour of the page and its charts, for light and dark screens. The names are CSS variables of the page.

The hues are those of Okabe and Ito (2008), which stay apart under every common colour blindness and in grey. Each has a
lighter twin for dark mode.
"""

HUES = {"cnn": "#0072B2", "transformer": "#D55E00", "hybrid": "#00805F", "other": "#9C4F8B"}  # of the families
HUES_DARK = {"cnn": "#56B4E9", "transformer": "#FF8A4C", "hybrid": "#2CC79B", "other": "#E6A3D3"}
LIGHT = {
    "paper": "#ffffff", "ink": "#1d2125", "soft": "#5c6670", "rule": "#e4e7ea", "wash": "#f5f7f8", "alarm": "#8a4b00",
    "alarm-wash": "#fff6e8", "shade": "rgb(0 0 0 / .16)", **HUES,
}  # fmt: skip
DARK = {
    "paper": "#14181c", "ink": "#e8eaed", "soft": "#a0a9b2", "rule": "#2c343b", "wash": "#1c2227", "alarm": "#ffc37a",
    "alarm-wash": "#2b2318", "shade": "rgb(255 255 255 / .16)", **HUES_DARK,
}  # fmt: skip
