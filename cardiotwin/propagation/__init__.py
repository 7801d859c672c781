"""The monodomain equation: discretisation, schemes, observables and the time loop."""
