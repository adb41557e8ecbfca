"""What a deliverer in the process of a put is told."""

from sqlalchemy.orm import Session


def test_a_commit_is_told(box, put):
    """Once for each commit that put something, whoever committed; not for others, nor for what is rolled back."""
    told = []
    box._on_commit = lambda: told.append(box.counts()["waiting"])
    put("alice")
    assert told == [1]
    box._on_commit = lambda: told.append("commit")
    with Session(box.engine) as session:
        message = {"topic": "t", "msg": {}, "recipients": ["alice"], "endpoints": {}, "topic_prefix": "org.example"}
        for _ in range(2):
            box.put(session, **message)
        assert told == [1]
        session.commit()
        assert told == [1, "commit"]
        session.connection()
        session.commit()
        box.put(session, **message)
        session.rollback()
    assert told == [1, "commit"]
