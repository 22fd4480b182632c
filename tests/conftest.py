"""No test touches the user's Hugging Face cache or the network. Set before anything imports the libraries."""

import os
import tempfile

cache = tempfile.TemporaryDirectory(prefix="synthset-tests-")
os.environ["HF_HOME"] = cache.name
os.environ["HF_HUB_OFFLINE"] = "1"
