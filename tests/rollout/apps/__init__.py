"""The apps behind the rig's Services: none of them knows anything of rollouts."""
