"""The coherent unit system (mm, ms, mV, uA, uF, mS) and the reading of quantities at the rim.

In these units the equations need no factors: mS * mV = uA, uF * mV / ms = uA, S/m = mS/mm,
mm/ms = m/s.
"""
