"""Print the subtitle of a message, *prefix* and *prefix_re* as in fedmsg.meta's configuration."""

import json
import sys

from gilmsg._meta import GilmsgProcessor

prefix, prefix_re, message = sys.argv[1:]
print(GilmsgProcessor(str, topic_prefix=prefix, topic_prefix_re=prefix_re).subtitle(json.loads(message)))
