// SPDX-License-Identifier: Apache-2.0

// Package v1 is the words users write: the resources of the API group weft/v1, their strict decoding, defaults and
// validation of one document by itself. It holds no logic about other documents and imports nothing of the module.
package v1

// APIVersion is the apiVersion of every resource of this package.
const APIVersion = "weft/v1"
