"""What people look at: continuations side by side, conversations, and the demo that shows the main job."""
