"""Reading and writing video: PyAV to decode, OpenCV to scale."""

from __future__ import annotations

import cv2

cv2.setNumThreads(1)
"""Clips are read side by side; threads within one picture wait for each other longer than they work."""
