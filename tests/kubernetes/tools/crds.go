// Package tools names the programs that go.mod lists as tools, and the module that brings the definition of EC2NodeClass.
package tools

import _ "github.com/aws/karpenter-provider-aws/pkg/apis"
