/*
 * diff - the patch between two states
 */
#ifndef SEANCE_DIFF_H
#define SEANCE_DIFF_H

#include <json-c/json.h>

#define DIFF_LCS_MAX 1024 /* insertions and removals within an array that Myers' way looks for */
#define DIFF_FEW     8    /* operations within a member that are kept even if they are longer than it */

/*
 * diff_make - the patch that turns one JSON value into another
 *
 * Operations as in RFC 6902: add, remove, replace.  Of objects first the members that are gone, then
 * those of `to` in its order.  Arrays by common ends, then longest common subsequence of the middle
 * (Myers 1986); when that takes more than DIFF_LCS_MAX insertions and removals, element by element.
 * An element that stands for another in the same place is compared further inside; where fewer stand
 * for more, they are paired from the end that has more in common.
 *
 * A container below the root is replaced as a whole where that is shorter: for an element of an array
 * always, for a member of an object when it also saves more than DIFF_FEW operations.  The root is
 * replaced only when its type changes or it is a scalar.  1 and 1.0 are equal; null and absent are not.
 *
 * from, to  Borrowed, not changed.  NULL is JSON null.
 * Returns   A new array, owned by the caller; empty when nothing differs; never NULL.  Its values
 *           share parts of `to` by reference.
 * Cost      O(values in both) plus Myers' O(n d) per array, n elements with d differences and
 *           bounded; a subtree that both share by reference is skipped.
 */
json_object *diff_make(json_object *from, json_object *to);

#endif
