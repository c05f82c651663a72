"""Settings of the lab's tests."""

from hypothesis import settings

# The first picture of a process also renders the detector's templates, and machines under load are slow.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")
