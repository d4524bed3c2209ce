"""The science of policy entropy: estimators, controls, dynamics. Imports torch, numpy and scipy only."""
