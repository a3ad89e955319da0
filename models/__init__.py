"""What a risk is, and how one is learned, judged, kept and explained."""
