"""Kernels and bytes of a small program, by hand."""

import pytest

from metarl_jax.plan.kernels import launches, parse, size_of

PROGRAM = """HloModule example, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%keep (seen: f32[5,4], i: s32[], x: f32[4]) -> f32[5,4] {
  %seen = f32[5,4]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %x = f32[4]{0} parameter(2)
  %row = f32[1,4]{1,0} bitcast(%x)
  %zero = s32[] constant(0)
  ROOT %kept = f32[5,4]{1,0} dynamic-update-slice(%seen, %row, %i, %zero)
}

%take (all: f32[5,4], i.1: s32[]) -> f32[4] {
  %all = f32[5,4]{1,0} parameter(0)
  %same = f32[5,4]{1,0} bitcast(%all)
  %i.1 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %one = f32[1,4]{1,0} dynamic-slice(%same, %i.1, %zero.1), dynamic_slice_sizes={1,4}
  ROOT %taken = f32[4]{0} bitcast(%one)
}

%step (s: (s32[], f32[5,4], /*index=2*/f32[5,4])) -> (s32[], f32[5,4], f32[5,4]) {
  %s = (s32[], f32[5,4]{1,0}, /*index=2*/f32[5,4]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%s), index=0
  %seen.1 = f32[5,4]{1,0} get-tuple-element(%s), index=1
  %given = f32[5,4]{1,0} get-tuple-element(%s), index=2
  %x.1 = f32[4]{0} fusion(%given, %n), kind=kLoop, calls=%take, metadata={op_name="while/body/environment_step/mul"}
  %seen.2 = f32[5,4]{1,0} fusion(%seen.1, %n, %x.1), kind=kLoop, calls=%keep
  ROOT %out = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) tuple(%n, %seen.2, %given)
}

%more (s.1: (s32[], f32[5,4], f32[5,4])) -> pred[] {
  %s.1 = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%s.1), index=0
  %end = s32[] constant(5)
  ROOT %less = pred[] compare(%n.1, %end), direction=LT
}

%until (s.2: (s32[], f32[5,4], f32[5,4])) -> pred[] {
  %s.2 = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) parameter(0)
  ROOT %close = pred[] custom-call(%s.2), custom_call_target="close"
}

%few (f: (s32[], f32[5,4], f32[5,4])) -> (s32[], f32[5,4], f32[5,4]) {
  ROOT %f = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) parameter(0)
}

ENTRY %main (state: (s32[], f32[5,4], f32[5,4]), which: s32[]) -> (s32[], f32[5,4], f32[5,4]) {
  %state = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) parameter(0)
  %which = s32[] parameter(1)
  %first = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) while(%state), condition=%more, body=%step
  %known = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) while(%first), condition=%until, body=%step, KNOWN
  %open = (s32[], f32[5,4]{1,0}, f32[5,4]{1,0}) while(%known), condition=%until, body=%step
  ROOT %end.1 = (s32[], f32[5,4]{1,0}) conditional(%which, %open, %open), branch_computations={%few, %few}
}
""".replace("KNOWN", 'backend_config={"known_trip_count":{"n":"3"}}')
STEP_BYTES = (16 + 4 + 16) + (4 + 16 + 16)  # take: a row, its number, a row; keep: the number, a row, a row


def test_a_loop_counts_as_often_as_it_runs() -> None:
    counted = launches(parse(PROGRAM), 5, kernel_seconds=1e-6, bandwidth=1e12)
    # 5 times by its condition, whose comparison is a kernel, 3 by XLA's word, once for want of either.
    assert counted.kernels == 5 * 3 + 3 * 3 + 1 * 3
    assert counted.open_loops == 1
    assert counted.kernels_per_step == 3
    assert counted.seconds == pytest.approx(counted.kernels * 1e-6)
    assert launches(parse(PROGRAM), 4, 1e-6, 1e12).kernels_per_step is None


def test_slices_count_for_what_they_move() -> None:
    counted = launches(parse(PROGRAM), 5, kernel_seconds=0, bandwidth=1)
    compared, closed = 4 + 4 + 1, (4 + 80 + 80) + 1
    assert counted.bytes == 9 * STEP_BYTES + 5 * compared + 4 * closed
    assert counted.seconds == counted.bytes


def test_what_stays_on_the_chip_moves_nothing() -> None:
    assert size_of("f32[8,128]{1,0:T(8,128)S(1)}") == 0
    assert size_of("f32[8,128]{1,0:T(8,128)}") == 4096
    assert size_of("(s32[], u8[3]{0}, bf16[], token[])") == 4 + 3 + 2
