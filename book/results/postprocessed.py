"""Make three post-processed copies of a model, fitted on unlabelled texts: `python postprocessed.py MODEL TEXTS OUT`.

TEXTS is a file as for `tempscale.read_texts` with one column, of which 2000 texts are drawn with a fixed seed. OUT gets the
folders centred, all-but-the-top and whitened (to 128 dimensions), which `tempscale evaluate` takes for models.
"""

import random
import sys
from pathlib import Path

from sentence_transformers.models import Normalize

from tempscale import AllButTheTop, Centring, Whitening, load_model, read_texts

name, file, out = sys.argv[1:]
texts = sorted(set(read_texts(file)))
texts = random.Random(0).sample(texts, min(2000, len(texts)))
embeddings = load_model(name, max_seq_length=512).encode(texts)
remedies = {"centred": Centring(), "all-but-the-top": AllButTheTop(), "whitened": Whitening(128)}
for label, remedy in remedies.items():
    model = load_model(name, max_seq_length=512)
    model.append(remedy.fit(embeddings).module())
    model.append(Normalize())
    model.save(str(Path(out, label)))
