b=bytearray(open('/root/scratch/payload/p.elf','rb').read()); i=b.find(bytes([2,0xb0,0xad,0x1b])); b[i]=0; open('/root/scratch/payload/pvh.elf','wb').write(b)
