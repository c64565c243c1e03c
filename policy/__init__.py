"""The policy pack: what every preview and every update of this program is held to, whoever changes it.

pulumi preview --policy-pack policy/pack
"""
