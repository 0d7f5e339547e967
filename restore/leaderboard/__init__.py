"""Challenge submissions: packing what the organisers accept, scoring it as they do, and a local leaderboard.

`submission.submit` restores, times, packs and checks; `scoring.score` is a scoring program (`INPUT/res`, `INPUT/ref` to
`OUTPUT/scores.txt`); `board` keeps runs and `page` shows them.
"""
