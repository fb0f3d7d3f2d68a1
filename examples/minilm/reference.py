"""The reference: the same sentences through sentence-transformers and torch. Runs in a virtual environment of its own.

Called by run.py: `python reference.py MODEL_FOLDER < sentences.json > vectors.json`.
"""

import json
import sys

from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
vectors = model.encode(json.load(sys.stdin), batch_size=32, show_progress_bar=False)
json.dump(vectors.tolist(), sys.stdout)
