"""The nested lab: a virtual machine of the project's own QEMU engine, with this checkout and a real /dev/kvm in it.

Where the host has no hardware virtualization, QEMU emulates a processor that has it (AMD's SVM), and so what needs KVM
can be run one level down: libkrun above all. docs/lab.md says how, and what its figures are worth.
"""
