"""What an agent is given."""

import gc
import weakref

from pointsman.agents.context import Context


class Runtime:
    """Of an attempt that has failed: its exception, whose frames have the context, is what it keeps."""

    context: Context


def test_it_is_collected_with_whatever_leads_back_to_it():
    """Each attempt that failed at a worker once stayed in memory for ever."""
    runtime = Runtime()
    runtime.context = Context("r", "c", 1, "k", 1, 0.0, runtime=runtime)
    left = weakref.ref(runtime)
    del runtime
    gc.collect()
    assert left() is None
