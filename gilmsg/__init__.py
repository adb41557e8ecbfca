"""gilmsg: fedmsg that knows whether a message arrived."""
