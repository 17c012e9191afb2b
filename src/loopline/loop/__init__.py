"""The closed loop: declaration, plan and controller."""
