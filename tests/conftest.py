"""What every test may count on."""

import signal

# started in the background (nohup, &), a process ignores Ctrl-C, and so would the tests of what Ctrl-C does
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
