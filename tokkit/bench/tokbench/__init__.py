"""TokBench: how well text can still be read, and faces be recognized, after a tokenizer (https://arxiv.org/abs/2505.18142).

Layout          the published folders and annotations        layout.py
fit, restore    a picture onto the tokenizer's square        prepare.py
bucket_scores   T-ACC, T-NED, F-Sim and their buckets        scores.py
Recognizer      reads words                                  recognizers.py
FaceEmbedder    compares faces                               faces.py
run             all of it, resumable                         run.py
run_video       the same for videos                          video.py
make_text       a text set rendered from fonts               generate.py
"""
