"""`promptreel torture`: the real programs, hurt on purpose, and what must hold all the same.

Clients submit, poll, cancel and download over HTTP while processes are killed, stopped past their
lease and cut off at named points, the disk fills up, messages come twice and late, clocks disagree.
Then everything heals, every job must end, and the invariants are checked.

    plan.py        what goes wrong and when, drawn from one seed
    tripwires.py   ports at which a process can be cut off
    api.py worker.py stand_in.py    the programs under torture
    cluster.py     those programs as processes
    tormentor.py   carries the plan out
    crowd.py       the clients
    history.py     what the clients saw
    evidence.py    what is there in the end
    invariants.py  what must hold
    session.py     one session, from start to verdict
"""
