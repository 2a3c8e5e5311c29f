"""What the host's kernel says about KVM."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boxlite.vmm.kernel_log import kvm_messages, read_kvm_messages


def test_only_what_is_new_and_about_kvm_counts() -> None:
    records = [
        b"6,1,1000000,-;kvm: old\n",
        b"6,2,3000000,-;eth0: link up\n",
        b"3,3,3000001,-;kvm [474]: vcpu0 \x1b[31mUnhandled WRMSR\n SUBSYSTEM=x\n",
        b"3,4,4000000,-,caller=T1;KVM: internal error\n",
    ]
    assert kvm_messages(iter(records), since=2) == ["kvm [474]: vcpu0 Unhandled WRMSR", "KVM: internal error"]


def test_of_many_the_last_are_taken() -> None:
    records = [b"6,%d,%d,-;kvm: %d\n" % (number, number, number) for number in range(100)]
    assert kvm_messages(iter(records), since=0) == [f"kvm: {number}" for number in range(95, 100)]


@given(st.lists(st.binary(max_size=40)))
def test_strange_records_are_no_error(records: list[bytes]) -> None:
    for message in kvm_messages(iter(records), since=0):
        assert message.replace("\t", "").isprintable()


def test_this_host_can_be_asked_whether_or_not_it_answers() -> None:
    assert isinstance(read_kvm_messages(seconds=1), list)
