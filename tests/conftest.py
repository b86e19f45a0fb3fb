"""What every test relies on."""

import signal

# A suite started in the background inherits "ignore Ctrl-C", and so would the processes it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
