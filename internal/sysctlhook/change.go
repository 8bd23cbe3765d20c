package sysctlhook

import (
	"fmt"
	"slices"
)

// SetAnswer changes the answer, without a gap. Where the kernel can't give it,
// the nearest is given that changes less: [Hook.Answer] tells which, and
// [Hook.How] why.
func (h *Hook) SetAnswer(a Answer) error {
	h.asked = a
	if a == Rewrite && !h.kernel.rewrites {
		a = Refuse
	}
	if !h.kernel.reads {
		a = Observe
	}
	s := h.settings
	s.Answer = a
	if err := h.tables.settings.Put(uint32(0), s); err != nil {
		return fmt.Errorf("set the answer: %w", err)
	}
	h.settings = s
	return nil
}

// Answer returns the answer that is given, for the keys that are not
// [Hook.Unlocked].
func (h *Hook) Answer() Answer { return h.settings.Answer }

// SetKeys changes what is guarded. A key that stays is guarded all the time,
// and one whose value stays is not touched.
func (h *Hook) SetKeys(keys []Key) error {
	rules := make(map[string]rule, len(keys))
	wants := make(map[string]string, len(keys))
	for _, k := range keys {
		r, err := k.rule()
		if err != nil {
			return err
		}
		rules[k.Path], wants[k.Path] = r, k.Want
	}
	if len(rules) > maxKeys {
		return fmt.Errorf("guard %d sysctls: at most %d can be", len(rules), maxKeys)
	}
	for path, old := range h.rules {
		if _, stays := rules[path]; stays {
			continue
		}
		if err := h.tables.rules.Delete(name(path)); err != nil {
			return fmt.Errorf("guard %s no longer: %w", path, err)
		}
		delete(h.rules, path)
		h.free = append(h.free, old.Slot)
	}
	for path, r := range rules {
		old, known := h.rules[path]
		if r.Slot = old.Slot; !known {
			r.Slot = h.free[0]
		}
		if known && r == old && h.slots[r.Slot].want == wants[path] {
			continue
		}
		if err := h.tables.rules.Put(name(path), r); err != nil {
			return fmt.Errorf("guard %s: %w", path, err)
		}
		if !known {
			h.free = h.free[1:]
		}
		h.rules[path] = r
		h.slots[r.Slot].path, h.slots[r.Slot].want = path, wants[path]
	}
	return nil
}

// Unlocked returns the keys, sorted, whose foreign values are told of but
// never refused: those that are no single number, and those outside of net/,
// which belong to no network namespace.
func (h *Hook) Unlocked() []string {
	var paths []string
	for path, r := range h.rules {
		if r.Lock == 0 {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
