{{- define "tamvt.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* Labels by which pods are found: they never change. Takes (list ROOT COMPONENT). */ -}}
{{- define "tamvt.selector" -}}
app.kubernetes.io/name: tamvt
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "tamvt.labels" -}}
{{ include "tamvt.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end -}}

{{- /* An image by its digest, else by its tag, else by the chart's version. */ -}}
{{- define "tamvt.image" -}}
{{- $image := index (index . 0).Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "tamvt.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tamvt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* What every pod's spec begins with. Takes (list ROOT COMPONENT USER). */ -}}
{{- define "tamvt.podStart" -}}
serviceAccountName: {{ include "tamvt.name" (index . 0) }}-{{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "tamvt.podSecurity" (index . 2) | nindent 2 }}
{{- with (index . 0).Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* Pods of a component on different nodes and in different zones, where that is possible. */ -}}
{{- define "tamvt.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tamvt.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "tamvt.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The folder of plans for one GPU, TensorRT and model. */ -}}
{{- define "tamvt.engineKey" -}}
{{- $e := .Values.triton.engines -}}
{{- printf "%s-%s-%s" $e.gpu $e.tensorrt $e.modelSha256 -}}
{{- end -}}

{{- define "tamvt.buildsEngines" -}}
{{- if and (eq .Values.engine.kind "triton") .Values.triton.engines.claim -}}yes{{- end -}}
{{- end -}}

{{- define "tamvt.redisUrl" -}}
{{- if eq .Values.redis.mode "trial" -}}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.passwordSecret.name }}, key: {{ .Values.redis.passwordSecret.key }}}}
- name: TAMVT_REDIS_URL
  value: {{ ternary "rediss" "redis" .Values.redis.tls.enabled }}://:$(REDIS_PASSWORD)@{{ include "tamvt.name" . }}-redis:6379/0
{{- else -}}
- name: TAMVT_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.urlSecret.name }}, key: {{ .Values.redis.urlSecret.key }}}}
{{- end }}
{{- if and .Values.redis.tls.enabled .Values.redis.tls.caSecret }}
- name: SSL_CERT_FILE
  value: /etc/tamvt/redis-ca/ca.crt
{{- end }}
{{- end -}}
