{{- /* The webhook of EKS gives a pod's token to all of its containers, so that workers would have it too. All are left out
(`eks.amazonaws.com/skip-containers`), and the agent's containers are given the token here. */}}
{{- define "htcgrid.credentials.podAnnotations" -}}
eks.amazonaws.com/skip-containers: agent,worker,fetch-function,copy-entrypoint
{{- end }}

{{- define "htcgrid.credentials.volumes" -}}
{{- if eq .Values.credentials.source "podIdentity" }}
- name: agent-token
  projected:
    sources:
      - serviceAccountToken:
          audience: pods.eks.amazonaws.com
          expirationSeconds: 86400
          path: token
{{- end }}
{{- end }}

{{- define "htcgrid.credentials.mounts" -}}
{{- if eq .Values.credentials.source "podIdentity" }}
- name: agent-token
  mountPath: /var/run/secrets/pods.eks.amazonaws.com/serviceaccount
  readOnly: true
{{- end }}
{{- end }}

{{- define "htcgrid.credentials.environment" -}}
- name: AWS_REGION
  value: {{ .Values.region }}
- name: AWS_DEFAULT_REGION
  value: {{ .Values.region }}
{{- with .Values.grid.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- if eq .Values.credentials.source "podIdentity" }}
- name: AWS_CONTAINER_CREDENTIALS_FULL_URI
  value: {{ ternary "http://169.254.170.23/v1/credentials" "http://[fd00:ec2::23]/v1/credentials" (eq .Values.ipFamily "IPv4") | quote }}
- name: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
  value: /var/run/secrets/pods.eks.amazonaws.com/serviceaccount/token
{{- else }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.credentials.secretName }}
      key: {{ $key }}
      optional: {{ eq $key "AWS_SESSION_TOKEN" }}
{{- end }}
{{- end }}
{{- end }}
