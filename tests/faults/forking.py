"""Ways to fork, and what parents and children do; see test_fork."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import psutil

import gilmsg

from .children import acks, arguments, beside, config, main, publish, publish_async, say, until, when_one_waits


def fork(job, end=os._exit):
    """Return the pid of a child that says what comes of *job*, and ends without any clean-up."""
    child = os.fork()
    if child:
        return child
    try:
        say(f"child: {job()}")
    except BaseException as error:  # noqa: BLE001  whatever it is, it is told
        say(f"child: {error!r}")
    end(0)


def reap(child):
    say(f"status: {os.waitpid(child, 0)[1]}")


# Parent and child publish.


def os_fork():
    publish()
    reap(fork(acks))
    say(acks())


def sys_exit_in_the_child():
    publish()
    reap(fork(acks, sys.exit))
    say(acks())


def the_childs_child():
    publish()
    reap(fork(lambda: (acks(), reap(fork(acks)))[0]))
    say(acks())


def before_the_first_publish():
    reap(fork(acks))
    say(acks())


def the_child_destroys():
    publish()
    reap(fork(lambda: (gilmsg.destroy(), acks())[1]))
    say(acks())


def in_a_thread():
    publish()
    beside(lambda: reap(fork(acks))).join()
    say(acks())


def in_a_callback():
    done = threading.Event()
    publish_async().add_done_callback(lambda future: (reap(fork(acks)), done.set()))
    until(done.is_set, "it is called")
    say(acks())


def by_multiprocessing(method="fork"):
    publish()
    child = multiprocessing.get_context(method).Process(target=say_acks, args=(config,))
    child.start()
    child.join()
    say(f"status: {child.exitcode}")
    say(acks())


def say_acks(configuration):
    config.update(configuration)
    say(f"child: {acks()}")


def by_spawn():
    by_multiprocessing("spawn")


def by_forkserver():
    by_multiprocessing("forkserver")


# A handler forks while its thread waits; in the child it returns to that.


def waited(wait):
    main_thread, state = threading.get_ident(), {}

    def handler(*_):
        state["child"], state["began"] = os.fork(), time.monotonic()
        if state["child"]:
            reap(state["child"])
            gilmsg.destroy()

    signal.signal(signal.SIGALRM, handler)
    when_one_waits(lambda: signal.pthread_kill(main_thread, signal.SIGALRM))
    try:
        wait(arguments(["nobody"], ack_timeout=60.0, **{"gilmsg.head_start": 0}))
    except gilmsg.ListenerError as error:
        told = str(error)
    if state["child"]:
        say(f"parent: {'stopped by destroy()' in told}")
    else:
        at_once = time.monotonic() - state["began"] < 30
        say("child: {}, {}".format("before it forked" in told, "at once" if at_once else "late"))
        os._exit(0)


def over_publish():
    waited(lambda call: gilmsg.publish(**call))


def over_a_result():
    waited(lambda call: gilmsg.publish_async(**call).result())


def over_a_result_with_a_limit():
    waited(lambda call: gilmsg.publish_async(**call).result(60))


def over_an_exception():
    def wait(call):
        raise gilmsg.publish_async(**call).exception()

    waited(wait)


def in_a_hook():
    """The parent's message leaves, the child's does not."""
    children = []
    try:
        say(acks(pre_fire_hook=lambda message: children.append(os.fork())))
    except gilmsg.ListenerError as error:
        say(f"child: {error}")
        os._exit(0)
    reap(children[0])


# What a child holds.


def in_a_child_that_stays():
    """Return a child that lives, once it has looked at what it holds."""
    publish()
    hear, tell = os.pipe()

    def stay():
        connections = psutil.Process().net_connections("tcp")
        say("holds {}".format(sorted(one.laddr.port for one in connections if one.status == "LISTEN")))
        os.write(tell, b"x")
        signal.pause()

    child = fork(stay)
    os.read(hear, 1)
    return child


def a_child_lives():
    child = in_a_child_that_stays()
    for _ in range(3):
        gilmsg.destroy()
        say(acks())
    os.kill(child, signal.SIGKILL)
    reap(child)


def a_child_outlives_its_parent():
    say(f"child is {in_a_child_that_stays()}")
    say("there")
    signal.pause()


def the_users_own_sockets():
    port = int(config["endpoints"]["publisher"][0].rpartition(":")[2])
    six = socket.socket(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    six.bind(("::", port))
    six.listen()
    own = socket.create_server(("127.0.0.1", 0))
    out = socket.create_connection(own.getsockname())
    publish()

    def look():
        six.getsockname(), own.getsockname(), out.send(b"x")
        return own.accept()[0].recv(1)

    reap(fork(look))
    say(acks())


def outstanding():
    future = publish_async(ack_timeout=20.0)
    reap(fork(future.result))
    say(list(future.result(30).acks))
    reap(fork(lambda: list(future.result().acks)))


def links():
    """Print where the descriptors of this process lead: run as a program that inherits some."""
    folder = "/proc/self/fd/"
    print([os.readlink(folder + name) for name in os.listdir(folder) if os.path.exists(folder + name)])


def programs():
    publish()
    words = [sys.executable, "-m", "tests.faults.forking", "links", json.dumps({})]
    for close in (True, False):
        found = subprocess.check_output(words, close_fds=close).decode()
        say("leaks" if "socket:" in found or "eventpoll" in found or "eventfd" in found else "clean")


def a_tail():
    tail = gilmsg.tail_messages(topic="org.example.dev.tests", **config)

    def child():
        try:
            next(tail)
        except gilmsg.ConfigurationError as error:
            say(f"refused: {error}")
        tail.close()
        gilmsg.tail_messages().close()
        return "done"

    reap(fork(child, sys.exit))
    say("there")
    say(next(tail)[2])


if __name__ == "__main__":
    # From Python 3.12 on a fork of a process with threads is warned of; what is tested is that it works.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    main(globals())
