"""How many examples hypothesis makes, and of which kind: HYPOTHESIS_PROFILE chooses, `dev` where it says nothing."""

from __future__ import annotations

import os

from hypothesis import settings

# New ones with every run; one that fails is kept in .hypothesis/ and tried first from then on.
settings.register_profile("dev", deadline=None, max_examples=50)
# The same ones with every run: what fails has to do with what was changed.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True)
# As many as there is time for.
settings.register_profile("campaign", settings.get_profile("dev"), max_examples=2000, print_blob=True)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
IS_CAMPAIGN = PROFILE == "campaign"
settings.load_profile(PROFILE)
