"""What is measured, and how a feature is made of it. The lowest room: it imports none of ours."""
