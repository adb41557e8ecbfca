# A sample of what gilmsg reads from fedmsg.d. Copy it to /etc/fedmsg.d/ on the hosts that publish, and
# change it. Hosts without gilmsg may read it too: it is plain data, which fedmsg ignores.
#
# Nothing else is needed in a program that says "import gilmsg as fedmsg".

config = {
    # Who must confirm which messages. The key is a full topic, or the part of one before some dot; the
    # longest key that matches counts, alone. "recipients" given in the call itself win over all of it.
    # Several files may each say this of some topics; of the same key, the last file (by name) counts alone.
    #
    # The values are the common names on the certificates of the recipients, not host or endpoint names.
    "gilmsg.recipients": {
        # Every topic that begins with "org.example.prod.compose.": this one recipient.
        "org.example.prod.compose": ["backend01.example.com"],
        # This topic: both of them, backend01 included, because a longer key replaces a shorter one.
        "org.example.prod.compose.finished": ["backend01.example.com", "archive01.example.com"],
        # A group, names joined by commas: one of the two is enough.
        "org.example.prod.deploy": ["web01.example.com,web02.example.com"],
        # Nobody: these go out as with fedmsg.
        "org.example.prod.compose.progress": [],
    },
    # Seconds from sending until Timeout is raised. Raise it where recipients are far away or busy.
    "gilmsg.ack_timeout": 0.25,
    # Seconds. The most that a publisher which has just been started waits for its recipients to connect
    # before it sends. If they are there already, it sends at once. 0 means never to wait.
    "gilmsg.head_start": 2.0,
    # True: a message for which nobody is named, here or in the call, is refused. (gilmsg 1.0.0 does not know this key.)
    "gilmsg.required": False,
    # True: raise the Timeout once a recipient cannot answer any more, because it has gone. Not for hosts that still
    # run gilmsg 1.0.0: it refuses keys that it does not know.
    "gilmsg.fail_fast": False,
}
