"""What a put looks at, and what a deliverer in its process is told."""

from sqlalchemy.orm import Session

from gilmsg import _settings


def test_a_configuration_is_checked_once(put, monkeypatch):
    """With 100 endpoints that takes seven times what a put does: keywords that say the same are not checked again."""
    checked, require = [], _settings.require
    monkeypatch.setattr(_settings, "require", lambda config: checked.append(config) or require(config))
    for number in range(3):
        put("alice", **({"name": "other"} if number == 2 else {}))
    assert len(checked) == 2


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
