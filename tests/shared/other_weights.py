"""Exports whose weights are not those of the network, which their proof must find."""


def shifted(twin):
    """Return what copies a network as `twin` does, and changes its weights a little."""

    def wrong(network, form):
        copy = twin(network, form)
        copy.set_weights([w + 0.05 for w in copy.get_weights()])
        return copy

    return wrong
